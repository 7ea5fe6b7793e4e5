#!/bin/sh
# All that a first run on a GPU should tell, in nine minutes, the most valuable first: benchmarks/gpu_session.sh FOLDER
# For a bare machine: torch with its Triton, pytest and hypothesis; no network, no installation, no C++ library.
# Every stage has its own time limit, and every result is in FOLDER/results.jsonl as soon as it is known.
# --rehearse FOLDER: the same without a GPU, in Triton's interpreter, on tiny shapes.
set -u
cd "$(dirname "$0")/.." || exit 1
rehearse=
if [ "${1:-}" = --rehearse ]; then
    rehearse=--rehearse
    export TRITON_INTERPRET=1
    shift
fi
out=${1:?usage: benchmarks/gpu_session.sh [--rehearse] FOLDER}
mkdir -p "$out" || exit 1
python=${PYTHON:-python3}
export PYTHONPATH=.:benchmarks:tests
failed=0

stage() { # SECONDS NAME COMMAND...
    seconds=$1 name=$2
    shift 2
    start=$(date +%s)
    if [ -n "$rehearse" ]; then seconds=1200; fi
    timeout "$seconds" "$@" >"$out/$name.out" 2>"$out/$name.err"
    code=$?
    grep '^{' "$out/$name.out" >>"$out/results.jsonl"
    [ "$code" = 0 ] || failed=1
    echo "{\"stage\": \"$name\", \"exit\": $code, \"seconds\": $(($(date +%s) - start))}" | tee -a "$out/results.jsonl"
    return "$code"
}

measured() { # SECONDS STAGE
    stage "$1" "$2" "$python" benchmarks/gpu_stages.py "$2" $rehearse
}

: >"$out/results.jsonl"
if command -v nvidia-smi >/dev/null; then stage 15 nvidia-smi nvidia-smi; fi
measured 15 versions
measured 60 smoke
measured 90 speed
if command -v ncu >/dev/null && [ -z "$rehearse" ]; then
    stage 60 counters ncu --clock-control none --set full --launch-count 8 \
        --kernel-name 'regex:box_rows|grad_rows' "$python" benchmarks/gpu_stages.py smoke
fi
measured 40 sizes
measured 60 variants
if [ -z "$rehearse" ]; then
    shards='float32 bfloat16 float16 float64 reference repeat graph'
    running=
    export BOX_CONVOLUTION_TEST_CASES=200
    for shard in $shards; do
        stage 120 "test-$shard" "$python" -m pytest tests/ops/test_on_gpu.py -k "$shard" &
        running="$running $!"
    done
    for process in $running; do wait "$process" || failed=1; done
fi
if command -v compute-sanitizer >/dev/null && [ -z "$rehearse" ]; then
    stage 45 sanitizer compute-sanitizer --tool memcheck --error-exitcode 9 \
        "$python" benchmarks/gpu_stages.py smoke --rehearse
fi
measured 60 blocks
measured 60 networks
exit $failed
