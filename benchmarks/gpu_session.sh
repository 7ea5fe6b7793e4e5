#!/bin/sh
# All that a first run on a GPU should tell, in nine minutes: benchmarks/gpu_session.sh FOLDER
# For a bare machine: torch with its Triton, a C compiler, pytest and hypothesis; no network, no installation, no C++
# library. Every stage has its own time limit, and every result is in FOLDER/results.jsonl as soon as it is known.
# First come all checks, side by side. They also compile the kernels, which Triton keeps for the stages that measure.
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
    {
        timeout "$seconds" "$@"
        echo $? >"$out/$name.exit"
    } 2>"$out/$name.err" | tee "$out/$name.out" | grep --line-buffered '^{' >>"$out/results.jsonl"
    code=$(cat "$out/$name.exit")
    [ "$code" = 0 ] || failed=1
    echo "{\"stage\": \"$name\", \"exit\": $code, \"seconds\": $(($(date +%s) - start))}" | tee -a "$out/results.jsonl"
    return "$code"
}

measured() { # SECONDS STAGE
    stage "$1" "$2" "$python" benchmarks/gpu_stages.py "$2" $rehearse
}

: >"$out/results.jsonl"
if command -v nvidia-smi >/dev/null; then stage 10 nvidia-smi nvidia-smi; fi
measured 40 versions

checks=170 running=
for name in smoke odd_shapes; do
    measured $checks $name &
    running="$running $!"
done
if [ -z "$rehearse" ]; then
    export BOX_CONVOLUTION_TEST_CASES=200
    for shard in float32 bfloat16 float16 float64 dense strided repeat graph more compiled waits channels_last; do
        stage $checks "test-$shard" "$python" -m pytest tests/ops/test_on_gpu.py -k "$shard" &
        running="$running $!"
    done
    for name in blocks networks variants; do
        stage $checks "compile-$name" "$python" benchmarks/gpu_stages.py "$name" --compile &
        running="$running $!"
    done
fi
for process in $running; do wait "$process" || failed=1; done

measured 80 speed
measured 25 sizes
measured 40 blocks
measured 45 networks
measured 40 variants
if command -v ncu >/dev/null && [ -z "$rehearse" ]; then
    stage 45 counters ncu --clock-control none --set full --launch-count 4 \
        --kernel-name 'regex:box_rows|grad_rows' "$python" benchmarks/gpu_stages.py smoke
fi
if command -v compute-sanitizer >/dev/null && [ -z "$rehearse" ]; then
    stage 40 sanitizer compute-sanitizer --tool memcheck --error-exitcode 9 \
        "$python" benchmarks/gpu_stages.py smoke --rehearse
fi
exit $failed
