#!/usr/bin/env bash
# Training and scoring on two machines that are network namespaces of this one (root, iproute2), one of them killed in
# the middle: prints whether weights and answers are those of an undisturbed run. Needs "ray[data]"; about ten minutes.
set -euo pipefail
python=${1:-python3}
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
export PYTHONPATH=$here OMP_NUM_THREADS=1 RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
port=29500

stop() { # also what a run that was killed has left
  for n in 0 1; do
    if ip netns pids nlpbook$n >"$work/pids" 2>/dev/null; then
      xargs -r kill -9 <"$work/pids" || true
      ip netns del nlpbook$n
    fi
  done
}
stop
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

for n in 0 1; do ip netns add nlpbook$n; done
ip link add nlp0 netns nlpbook0 type veth peer name nlp1 netns nlpbook1
for n in 0 1; do
  ip -n nlpbook$n addr add 10.9.0.$((n + 1))/24 dev nlp$n
  ip -n nlpbook$n link set nlp$n up
  ip -n nlpbook$n link set lo up
done
on() { ip netns exec nlpbook"$1" "${@:2}"; } # on MACHINE COMMAND …

train() { # train FOLDER: on both machines, until both have ended
  printf '{"pretrained_model_name": "nlpbook-mini", "downstream_corpus_name": "nsmc-sample", "validation_size": 0.1,
    "downstream_model_dir": "%s", "epochs": 2, "batch_size": 16, "learning_rate": 2e-4, "max_seq_length": 32, "seed": 7,
    "resume_minutes": 0.05}' "$work/$1" >"$work/$1.json"
  port=$((port + 1))
  for n in 0 1; do
    GLOO_SOCKET_IFNAME=nlp$n on $n "$python" -m torch.distributed.run --nnodes 2 --node-rank $n --nproc-per-node 1 \
      --master-addr 10.9.0.1 --master-port $port -m nlpbook_helpers train "$work/$1.json" >>"$work/$1.$n.log" 2>&1 &
  done
  wait
}

kill_machine() { # kill_machine N PATTERN: SIGKILL every process of machine N whose command line has PATTERN
  for pid in $(ip netns pids nlpbook"$1"); do
    if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$2"; then kill -9 "$pid"; fi
  done
}

train whole
train cut &
training=$!
until grep -q "epoch 0: [3-6][0-9] of" "$work/cut.0.log" 2>/dev/null; do sleep 0.2; done
kill_machine 1 nlpbook_helpers
wait $training
train cut
grep -h "going on" "$work/cut.0.log"
"$python" - "$work" <<'PYTHON'
import sys
from pathlib import Path

import torch

files = [next(Path(sys.argv[1], name).glob("*.ckpt")) for name in ("whole", "cut")]
whole, cut = (torch.load(file, weights_only=True)["state_dict"] for file in files)
print("training, one of two machines killed: same weights:", all(torch.equal(whole[key], cut[key]) for key in whole))
PYTHON

sample=$here/nlpbook_helpers/samples/nsmc-sample/ratings_train.txt
for _ in 1 2 3 4 5 6 7 8; do tail -n +2 "$sample"; done | { head -1 "$sample"; cat; } >"$work/reviews.tsv"
predict() { on 0 "$python" -m nlpbook_helpers predict --checkpoint doccls --input "$work/reviews.tsv" "$@"; }
predict --output "$work/local.tsv"
ray="$python -m ray.scripts.scripts"
on 0 $ray start --head --port 6399 --num-cpus 1 --node-ip-address 10.9.0.1 --include-dashboard=false >"$work/ray.log" 2>&1
on 1 $ray start --address 10.9.0.1:6399 --num-cpus 1 --node-ip-address 10.9.0.2 >>"$work/ray.log" 2>&1
predict --output "$work/ray.tsv" --engine ray --address 10.9.0.1:6399 2>"$work/predict.log" &
scoring=$!
until grep -qE " (4096|8192)/" "$work/predict.log" 2>/dev/null; do sleep 0.2; done
kill_machine 1 ray
wait $scoring
cmp "$work/local.tsv" "$work/ray.tsv" && echo "scoring, one of two machines killed: same file"
