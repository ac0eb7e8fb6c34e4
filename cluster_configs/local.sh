#!/usr/bin/env bash
# One Ray head on this machine, started and stopped by its own process id; other Ray processes are left alone.
#
#   cluster_configs/local.sh start                       # prints what to export to join it
#   cluster_configs/local.sh submit -- aenet-ray train run.yaml
#   cluster_configs/local.sh stop
#
# Settings (environment): RAY_CPUS, RAY_PORT, DASHBOARD_PORT, AGENT_PORT, CLIENT_PORT, STATE_DIR. Ports outside 10002-19999, where
# Ray puts its workers: a clash is an error. Not `ray stop`: that ends every Ray process of the user.
set -euo pipefail

RAY_CPUS=${RAY_CPUS:-$(nproc)}
RAY_PORT=${RAY_PORT:-26379}
DASHBOARD_PORT=${DASHBOARD_PORT:-28265}
# Ray's usual ports for these belong to whichever Ray came first; a head whose agent has none takes no jobs.
AGENT_PORT=${AGENT_PORT:-$((DASHBOARD_PORT + 1))}
CLIENT_PORT=${CLIENT_PORT:-$((DASHBOARD_PORT + 2))}
STATE_DIR=${STATE_DIR:-${TMPDIR:-/tmp}/aenet-ray-$(id -u)}  # short: socket paths end at 107 characters
PID_FILE=$STATE_DIR/head.pid
LOG_FILE=$STATE_DIR/head.log
JOBS_ADDRESS=http://127.0.0.1:$DASHBOARD_PORT

# Whoever reaches the head's port can run code here, so a token is asked for: one of its own, not the account's.
mkdir -p -m 700 "$STATE_DIR"
[[ -O $STATE_DIR ]] || { echo "$STATE_DIR belongs to somebody else: set STATE_DIR" >&2; exit 1; }
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$STATE_DIR/token RAY_USAGE_STATS_ENABLED=${RAY_USAGE_STATS_ENABLED:-0}
# Jobs get SIGINT and half a minute, in which Ray Train ends a run in order.
export RAY_JOB_STOP_SIGNAL=SIGINT RAY_JOB_STOP_WAIT_TIME_S=30
# Train asks its workers this often; the default, 2 s, makes every report take 2 s.
export RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=${RAY_TRAIN_HEALTH_CHECK_INTERVAL_S:-0.2}

is_running() { [[ -f $PID_FILE ]] && kill -0 "$(<"$PID_FILE")" 2>/dev/null; }

is_ready() { (exec 3<>"/dev/tcp/127.0.0.1/$DASHBOARD_PORT") 2>/dev/null; }

start() {
  if is_running; then echo "already running: pid $(<"$PID_FILE")"; return; fi
  (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
  # A temporary directory of its own: in the usual one, `ray.init()` of other programs would find this head.
  ray start --head --block --num-cpus="$RAY_CPUS" --port="$RAY_PORT" --temp-dir="$STATE_DIR/ray" \
    --dashboard-host=127.0.0.1 --dashboard-port="$DASHBOARD_PORT" --disable-usage-stats \
    --dashboard-agent-listen-port="$AGENT_PORT" --ray-client-server-port="$CLIENT_PORT" \
    >"$LOG_FILE" 2>&1 </dev/null &
  echo $! >"$PID_FILE"
  for _ in $(seq 60); do
    if is_ready; then
      echo "head: pid $(<"$PID_FILE"), jobs and dashboard at $JOBS_ADDRESS"
      echo "to join it: export RAY_ADDRESS=127.0.0.1:$RAY_PORT RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH"
      return
    fi
    if ! is_running; then break; fi
    sleep 0.5
  done
  echo "the head did not start within 30 s; its log ends with:" >&2
  tail -n 20 "$LOG_FILE" >&2
  stop
  return 1
}

stop() {
  if ! is_running; then echo "not running"; rm -f "$PID_FILE"; return; fi
  local pid
  pid=$(<"$PID_FILE")
  kill -TERM "$pid"
  for _ in $(seq 80); do is_running || break; sleep 0.5; done
  is_running && kill -KILL "$pid"
  rm -f "$PID_FILE"
  echo "stopped pid $pid"
}

# A head that has just started takes jobs only some seconds later, when its agent is up.
submit() {
  local status errors
  errors=$(mktemp)
  for _ in $(seq 30); do
    status=0
    ray job submit --address "$JOBS_ADDRESS" "$@" 2> >(tee "$errors" >&2) || status=$?
    if ((status == 0)) || ! grep -q "No available agent" "$errors"; then break; fi
    sleep 1
  done
  rm -f "$errors"
  return "$status"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  status) if is_running && is_ready; then echo "running: $JOBS_ADDRESS"; else echo "not running"; exit 1; fi ;;
  submit)
    shift
    is_ready || { echo "no head at $JOBS_ADDRESS: run '$0 start' first" >&2; exit 1; }
    submit "$@"
    ;;
  *) echo "usage: $0 start|stop|status|submit -- COMMAND..." >&2; exit 2 ;;
esac
