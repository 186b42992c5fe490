#!/usr/bin/env bash
# Trains the camvid nets on a GPU and brings home checkpoints, cards, logs and rates.
#
#   benchmarks/gpu_train.sh --data DIR -o OUT [--host USER@HOST] [OPTION of gpu_train.py ...]
#
# With --host, code and data go to a new folder there by tar and ssh (CamVid: 61 MB in all), and
# OUT comes back, also if a net fails. The host needs CUDA and Python 3.10 or newer with PyTorch,
# NumPy, OpenCV, Pillow, safetensors, click, filelock and packaging; no network and no installation.
# Without --host all of that is needed here. PYTHON names the interpreter, else python3.
# A trial on a CPU: --device cpu --epochs 1 --crop 64x64 --batch 4 --seconds 1
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
host='' data='' out='' encoder=''
others=()
while (($#)); do
    case $1 in
        --host) host=$2; shift 2 ;;
        --data) data=$2; shift 2 ;;
        -o) out=$2; shift 2 ;;
        --encoder-weights) encoder=$2; shift 2 ;;
        *) others+=("$1"); shift ;;
    esac
done
if [[ -z $data || -z $out ]]; then
    echo "expected --data DIR and -o OUT; see the first lines of $0" >&2
    exit 2
fi

if [[ -z $host ]]; then
    [[ -z $encoder ]] || others+=(--encoder-weights "$encoder")
    exec "$python" "$root/benchmarks/gpu_train.py" --data "$data" -o "$out" "${others[@]}"
fi

mkdir -p "$out"
there=$(ssh "$host" mktemp -d)
bring_home() {
    ssh "$host" "tar c -C '$there/out' --exclude=last.pt . 2> /dev/null" | tar x -C "$out" || true
    ssh "$host" "rm -rf '$there'"
}
trap bring_home EXIT
tar c -C "$root" --exclude=__pycache__ --exclude='weights/*.cells.*' --exclude='weights/*.em_*' \
    --exclude='weights/*.magnetic_*' edgeunet runtime export benchmarks/gpu_train.py \
    benchmarks/gpu_train.sh | ssh "$host" "tar x -C '$there'"
tar c -C "$data" . | ssh "$host" "mkdir '$there/data' '$there/out' && tar x -C '$there/data'"
if [[ -n $encoder ]]; then
    others+=(--encoder-weights "$(basename "$encoder")")
    ssh "$host" "cat > '$there/$(basename "$encoder")'" < "$encoder"
fi
quoted=''
if ((${#others[@]})); then
    quoted=$(printf '%q ' "${others[@]}")
fi
ssh "$host" "cd '$there' && PYTHON='$python' bash benchmarks/gpu_train.sh --data data -o out $quoted"
