# docker build -f docker/cpu.Dockerfile -t edgeunet .
# docker run --rm -v "$PWD:/data" edgeunet run /data/BUNDLE /data/film.mp4 -o /data/overlay.mp4
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt "/src[cpu,openvino,serve,video]" \
    && rm -rf /src && useradd --create-home edgeunet
USER edgeunet
WORKDIR /data
ENTRYPOINT ["edgeunet"]
CMD ["doctor"]
