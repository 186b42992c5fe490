# For a Jetson with JetPack 6: docker build -f docker/l4t.Dockerfile -t edgeunet .
# docker run --rm --runtime nvidia -v "$PWD:/data" edgeunet run /data/BUNDLE /data/film.mp4 -o /data/overlay.mp4
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-opencv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN pip3 install --no-cache-dir 'numpy<2' '/src[trt,serve]' av onnxruntime && rm -rf /src
WORKDIR /data
ENTRYPOINT ["edgeunet"]
CMD ["doctor"]
