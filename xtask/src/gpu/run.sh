#!/bin/bash
# Tests and times the CUDA backend on a machine with a GPU, from the folder that `cargo xtask gpu-bundle`
# made.
#
#   run.sh all               the tests, then the measurements
#   run.sh tests [WORDS]     every test binary; WORDS go to each of them, such as a filter
#   run.sh bench [WORDS]     this engine and its peers; WORDS go to peers/gpu.py
#   run.sh sanitize [WORDS]  the tests of the kernels under compute-sanitizer
#   run.sh profile ID [WORDS]  where the time of a workload's step goes, by the engine and by ncu
#
# Variables, with what holds without them:
#   OUT=.             folder for gpu.jsonl, table.md and logs.tgz
#   LIMIT=560         seconds for everything
#   TEST_LIMIT=240    seconds for each test binary
#   TEST_THREADS=8    tests at a time in one binary
#   BENCH_LIMIT=330   seconds for all measurements
#   COMPILE=          workloads for torch.compile too, such as W2,W6: it compiles for long
#   DEEP=W9-3163      the workload of 1.0e9 weights; empty to leave it out
#   SECONDS_A_ROW=0.7 of timing
#   SANITIZE=conformance   test binaries to sanitize: those with this in their names
#   DATA=...          folder for the workloads' values, 0.3 GB
#   PYTHON=python3    with PyTorch and JAX
#   DEVICE=cuda       cpu for trying this script out
set -u

out=${OUT:-.}
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd) || exit 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 2
cd "$here" || exit 2
verb=${1:-all}
[ $# -gt 0 ] && shift

python=${PYTHON:-python3}
device=${DEVICE:-cuda}
logs=$out/logs
table=$out/summary.txt
mkdir -p "$logs"
: > "$table"
passed=0
failed=()
skipped=0
rows=0
failed_rows=0
drawing=

# The seconds that are left, but at most so many; at least one, since `timeout 0` is no limit.
at_most() {
  local left=$((${LIMIT:-560} - SECONDS - 5))
  [ $left -gt "$1" ] && left=$1
  [ $left -lt 1 ] && left=1
  echo $left
}

say() { printf '%s\n' "$*"; }

find_libraries() {
  local folder purelib
  purelib=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' 2>/dev/null)
  if [ -z "${BACKPROP_CUDA_LIBS:-}" ]; then
    for folder in "$purelib/nvidia/cu13/lib" /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib; do
      if [ -e "$folder/libnvrtc.so.13" ]; then
        BACKPROP_CUDA_LIBS=$folder
        break
      fi
    done
  fi
  [ -n "${BACKPROP_CUDA_LIBS:-}" ] && export BACKPROP_CUDA_LIBS
  export BACKPROP_REQUIRE_GPU=${BACKPROP_REQUIRE_GPU-1}
  export BACKPROP_TEST_BACKEND=${BACKPROP_TEST_BACKEND-cuda}
  export BACKPROP_CUDA_CACHE=${BACKPROP_CUDA_CACHE:-$here/cache}
  # Where the sanitizer and the profiler lie if nobody said so.
  export PATH=$PATH:/usr/local/cuda/bin
  export RUST_BACKTRACE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
  mkdir -p "$BACKPROP_CUDA_CACHE"
}

# Tests look for their data where it was when they were built.
place_tree() {
  local root
  root=$(cat ROOT 2>/dev/null) || return 0
  if [ -n "$root" ] && [ ! -e "$root" ] && [ -d tree ]; then
    mkdir -p "$(dirname "$root")" tree/target/tmp && ln -s "$here/tree" "$root"
  fi
}

describe() {
  say "commit $(cat COMMIT 2>/dev/null)"
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem --format=csv,noheader 2>&1 \
    || say "nvidia-smi: not found or failed"
  say "CUDA libraries: ${BACKPROP_CUDA_LIBS:-none found}"
  say "kernels in the cache: $(find "$BACKPROP_CUDA_CACHE" -type f | wc -l)"
}

# One test binary. Its last lines are shown if it fails.
test_binary() {
  local name=$1 start=$SECONDS status told limit
  shift
  limit=$(at_most "${TEST_LIMIT:-240}")
  timeout -k 5 "$limit" "$@" > "$logs/$name.log" 2>&1
  status=$?
  told=$(grep -E '^test result' "$logs/$name.log" | tail -1 | sed -E 's/^test result: //; s/; [0-9]+ measured.*//')
  if [ $status -eq 0 ]; then
    passed=$((passed + 1))
  else
    failed+=("$name")
    [ $status -eq 124 ] && told="not done within $limit s"
    say "--- $name failed (status $status)"
    grep -E '^test .*FAILED$' "$logs/$name.log" | head -20
    tail -n 30 "$logs/$name.log" | cut -c1-400
    say "---"
  fi
  printf '%-44s %4d s  %s\n' "$name" $((SECONDS - start)) "${told:-status $status}" | tee -a "$table"
}

tests() {
  local binary name arguments
  # Those of this package first: what uses it fails where it does.
  for binary in bin/test-backprop-cuda-* bin/test-*; do
    [ -x "$binary" ] || continue
    name=$(basename "$binary")
    [ -e "$logs/$name.log" ] && continue
    arguments=("--test-threads=${TEST_THREADS:-8}" "$@")
    test_binary "$name" "$binary" "${arguments[@]}"
  done
}

find_data() {
  DATA=${DATA:-$here/data}
  mkdir -p "$DATA"
}

# Draws the values of all workloads in the background.
draw() {
  local id
  find_data
  for id in W0 W1 W2 W3 W4 W5 W6 W7 W8 W9; do
    [ -e "$DATA/$id.safetensors" ] && continue
    bin/workload data "$id" "$DATA/$id.safetensors" > "$logs/data-$id.log" 2>&1 &
    drawing="$drawing $!"
  done
}

bench() {
  local arguments=(--data "$DATA" --own bin/workload --device "$device") limit
  arguments+=(--seconds "${SECONDS_A_ROW:-0.7}")
  [ -n "${COMPILE:-}" ] && arguments+=(--compile "$COMPILE")
  [ -n "${DEEP-W9-3163}" ] && arguments+=(--deep "${DEEP-W9-3163}")
  # The data has to be there and the processors idle.
  [ -n "$drawing" ] && wait $drawing
  limit=$(at_most "${BENCH_LIMIT:-330}")
  # The last row may begin so late that it ends in time.
  arguments+=(--budget "$((limit * 4 / 5))" --row-limit "$((limit / 5 + 1))")
  timeout -k 5 "$limit" "$python" peers/gpu.py "${arguments[@]}" "$@" \
    > "$out/gpu.jsonl" 2> "$logs/bench.log"
  local status=$?
  if [ $status -ne 0 ]; then
    failed+=(bench)
    say "--- bench failed (status $status)"
    tail -n 20 "$logs/bench.log" | cut -c1-400
  fi
  "$python" peers/table.py "$out/gpu.jsonl" > "$out/table.md" 2>> "$logs/bench.log" || failed+=(table)
  rows=$(grep -c '"engine"' "$out/gpu.jsonl")
  failed_rows=$(grep '"engine"' "$out/gpu.jsonl" | grep -c '"error"')
  # Peers may fail as they like.
  grep '"engine": "backprop"' "$out/gpu.jsonl" | grep -q '"error"' && failed+=(backprop-rows)
}

sanitize() {
  local tool binary name
  for binary in bin/test-*"${SANITIZE:-conformance}"*; do
    [ -x "$binary" ] || continue
    for tool in memcheck racecheck; do
      name=$tool-$(basename "$binary")
      test_binary "$name" compute-sanitizer --tool "$tool" --error-exitcode 1 --print-limit 20 \
        "$binary" --test-threads=1 "$@"
    done
  done
}

profile() {
  local id=${1:?a workload} values
  shift
  find_data
  values=$DATA/$id.safetensors
  case $id in
    W9-*) values=- ;;
    *) [ -e "$values" ] || bin/workload data "$id" "$values" || exit 2 ;;
  esac
  bin/workload run "$id" "$values" --device "$device" --seconds 1 --profile "$@" > "$logs/profile-$id.log" 2>&1
  local status=$?
  cat "$logs/profile-$id.log"
  if [ $status -eq 0 ]; then passed=$((passed + 1)); else failed+=("profile-$id"); fi
  command -v ncu > /dev/null || { say "ncu: not found"; return; }
  # The first launches are of the losses, long after everything is compiled.
  timeout -k 5 "$(at_most 200)" ncu --clock-control none --graph-profiling node --launch-count "${LAUNCHES:-100}" --csv \
    --metrics gpu__time_duration.sum,dram__bytes.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed,dram__throughput.avg.pct_of_peak_sustained_elapsed,launch__registers_per_thread,sm__warps_active.avg.pct_of_peak_sustained_active \
    bin/workload run "$id" "$values" --device "$device" --seconds 0.01 "$@" > "$out/ncu-$id.csv" 2> "$logs/ncu-$id.log" \
    || { failed+=("ncu-$id"); tail -n 5 "$logs/ncu-$id.log"; }
}

# What can come back is few files: the logs go into one.
finish() {
  local line
  skipped=$(cat "$logs"/*.log 2>/dev/null | grep -c 'skipped:')
  say
  cat "$table"
  [ -s "$out/table.md" ] && cat "$out/table.md"
  tar -czf "$out/logs.tgz" -C "$out" logs && rm -r "$logs"
  line="gpu-bundle: $passed passed, ${#failed[@]} failed"
  [ ${#failed[@]} -gt 0 ] && line="$line (${failed[*]})"
  say "$line, $skipped lines of what was skipped, $rows rows, $failed_rows of them failed, $SECONDS s"
  [ ${#failed[@]} -eq 0 ] && [ $((passed + rows)) -gt 0 ]
}

find_libraries
place_tree
rm -f "$logs"/*.log "$out/table.md"
describe 2>&1 | tee "$logs/machine.log"
case $verb in
  all)
    draw
    tests
    bench "$@"
    ;;
  tests) tests "$@" ;;
  bench)
    draw
    bench "$@"
    ;;
  sanitize) sanitize "$@" ;;
  profile) profile "$@" ;;
  *)
    say "no verb is called \`$verb\`, only all, tests, bench, sanitize and profile"
    exit 2
    ;;
esac
finish
