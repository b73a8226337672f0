"""What the dashboards show: each panel's question, its queries and their unit. `dashboards` draws them."""

from __future__ import annotations

from .panel import GPU, RATE, Board, Panel, quantiles_of
from .rules import OBJECTIVE, REQUESTS, SECONDS

__all__ = ["BOARDS", "GPU", "Board", "Panel"]

BOARDS = (
    Board(
        "overview",
        "Action recognition: overview",
        (
            Panel(
                "Requests",
                "Requests for work, without what machines ask every few seconds.",
                "reqps",
                ((f"sum by (route) (rate({REQUESTS}[{RATE}]))", "{{route}}"),),
            ),
            Panel(
                "Answers by status",
                "4xx are faults of the request, 5xx of the server. 503: a full queue, or no worker.",
                "reqps",
                ((f"sum by (status) (rate({REQUESTS}[{RATE}]))", "{{status}}"),),
            ),
            Panel(
                "Errors by code",
                "What each refused request was told; the table of codes is in docs/requests.md.",
                "reqps",
                ((f"sum by (code) (rate(actionrec_errors_total[{RATE}]))", "{{code}}"),),
            ),
            Panel(
                "Share of errors",
                f"5xx among the requests for work. The objective is {1 - OBJECTIVE:.1%} of 30 days at most.",
                "percentunit",
                (("actionrec:errors:ratio5m", "5 minutes"), ("actionrec:errors:ratio1h", "1 hour")),
            ),
            Panel("Duration", "From a request's first byte to its reply's last.", "s", quantiles_of(SECONDS)),
            Panel(
                "Waiting and in flight",
                "Waiting is above 0 only while every worker is busy. What an autoscaler follows.",
                "short",
                (
                    ("max by (model) (actionrec_requests_waiting)", "{{model}} waiting"),
                    ("sum(actionrec_requests_in_flight)", "in flight"),
                ),
            ),
            Panel(
                "Workers",
                "Ready and wanted, for each model.",
                "short",
                (
                    ("sum by (model) (actionrec_workers_ready)", "{{model}} ready"),
                    ("sum by (model) (actionrec_workers_wanted)", "{{model}} wanted"),
                ),
            ),
        ),
    ),
    Board(
        "stages",
        "Action recognition: stages of a prediction",
        (
            Panel(
                "Time of a stage, median",
                "From each reply's own times. Decoding a large video takes longest on a CPU.",
                "s",
                (
                    (
                        "histogram_quantile(0.5, sum by (stage, le) "
                        f"(rate(actionrec_stage_seconds_bucket[{RATE}])))",
                        "{{stage}}",
                    ),
                ),
            ),
            Panel(
                "Time of a stage, 95th percentile",
                "What the slowest twentieth takes.",
                "s",
                (
                    (
                        "histogram_quantile(0.95, sum by (stage, le) "
                        f"(rate(actionrec_stage_seconds_bucket[{RATE}])))",
                        "{{stage}}",
                    ),
                ),
            ),
            Panel(
                "Seconds of work in a second",
                "What the stages take together. Near the number of cores, the machine is full.",
                "short",
                ((f"sum by (stage) (rate(actionrec_stage_seconds_sum[{RATE}]))", "{{stage}}"),),
            ),
            Panel(
                "Predictions",
                "Answered with a prediction.",
                "reqps",
                ((f'sum(rate(actionrec_stage_seconds_count{{stage="inference"}}[{RATE}]))', "predictions"),),
            ),
            Panel(
                "Time in TorchServe's queue",
                "Mean of each request; milliseconds while workers are free.",
                "µs",
                (
                    (
                        f"sum by (model_name) (rate(ts_queue_latency_microseconds[{RATE}]))"
                        f" / (sum by (model_name) (rate(ts_inference_requests_total[{RATE}])) > 0)",
                        "{{model_name}}",
                    ),
                ),
            ),
        ),
    ),
    Board(
        "jobs",
        "Action recognition: jobs",
        (
            Panel(
                "Jobs that are kept",
                "By their state. Waiting that only grows: more jobs come than are worked off.",
                "short",
                (("max by (state) (actionrec_jobs)", "{{state}}"),),
            ),
            Panel(
                "Failed jobs",
                "That are kept; each says why in its own reply.",
                "short",
                (('max(actionrec_jobs{state="failed"})', "failed"),),
                number=True,
            ),
            Panel(
                "Requests about jobs",
                "Sent, looked at, cancelled.",
                "reqps",
                (
                    (
                        "sum by (route, status) "
                        f'(rate(actionrec_request_seconds_count{{route=~"/jobs.*"}}[{RATE}]))',
                        "{{route}} {{status}}",
                    ),
                ),
            ),
        ),
    ),
    Board(
        "workers",
        "Action recognition: workers and their children",
        (
            Panel(
                "Memory of a worker",
                "With its decoding children. It rises with the first large videos, then stays.",
                "bytes",
                (("actionrec_worker_memory_bytes", "{{instance}} {{model}} {{worker}}"),),
            ),
            Panel(
                "Decoding children",
                "That live now. A child serves one client, and ends after it.",
                "short",
                (("actionrec_worker_children", "{{instance}} {{model}} {{worker}}"),),
            ),
            Panel(
                "Children replaced",
                "That died or were killed while they decoded: broken and hostile videos.",
                "short",
                (
                    (
                        "sum by (ModelName) (increase(actionrec_sandbox_children_replaced_total[15m]))",
                        "{{ModelName}}",
                    ),
                ),
            ),
            Panel(
                "Sandbox defences missing",
                "0, or videos of strangers are decoded with less protection than the archive asks for.",
                "short",
                (("max by (ModelName, instance) (actionrec_sandbox_defences_missing)", "{{ModelName}}"),),
                number=True,
            ),
            Panel(
                "Age of a worker",
                "A drop is a restart.",
                "s",
                (("time() - actionrec_worker_started_seconds", "{{instance}} {{model}} {{worker}}"),),
            ),
            Panel(
                "The gateway itself",
                "Its memory; it keeps no video.",
                "bytes",
                (("actionrec_gateway_process_resident_memory_bytes", "{{instance}}"),),
            ),
            Panel(
                "Open files of the gateway",
                "Connections, above all.",
                "short",
                (("actionrec_gateway_process_open_fds", "{{instance}}"),),
            ),
        ),
    ),
    Board(
        "input",
        "Action recognition: what is sent, and how sure the answers are",
        (
            Panel(
                "Score of the best label",
                "A median that falls: other videos than the model was made for.",
                "percentunit",
                quantiles_of("actionrec_best_score_bucket", "model", quantiles=(0.1, 0.5, 0.9)),
            ),
            Panel(
                "Warnings for each answer",
                "By their code. More of them: other cameras, a broken sender.",
                "short",
                (
                    (
                        f"sum by (code) (rate(actionrec_warnings_total[{RATE}]))"
                        f" / on () group_left sum(rate(actionrec_best_score_count[{RATE}]))",
                        "{{code}}",
                    ),
                ),
            ),
            Panel(
                "Codecs",
                "How the videos are coded. A new one: other senders.",
                "reqps",
                ((f"sum by (codec) (rate(actionrec_videos_total[{RATE}]))", "{{codec}}"),),
            ),
            Panel(
                "Length of what is looked at",
                "The span of each answer.",
                "s",
                quantiles_of("actionrec_video_span_seconds_bucket", "model", quantiles=(0.1, 0.5, 0.9)),
            ),
            Panel(
                "Shorter side",
                "Larger videos take longer to decode.",
                "short",
                quantiles_of("actionrec_video_short_side_pixels_bucket", "model", quantiles=(0.1, 0.5, 0.9)),
            ),
            Panel(
                "Frames a second",
                "Of the videos.",
                "short",
                quantiles_of("actionrec_video_frames_per_second_bucket", "model", quantiles=(0.1, 0.5, 0.9)),
            ),
            Panel(
                "Size of a request",
                "Of those with an answer.",
                "bytes",
                quantiles_of("actionrec_request_bytes_bucket", "model", quantiles=(0.1, 0.5, 0.9)),
            ),
            Panel(
                "Answers by candidate",
                "While a model has one (`python -m deploy canary`): who answered, and how it ended.",
                "reqps",
                (
                    (
                        f"sum by (model, served, status) (rate(actionrec_canary_seconds_count[{RATE}]))",
                        "{{model}}: {{served}} {{status}}",
                    ),
                ),
            ),
            Panel(
                "Time to the answer by candidate, 95th percentile",
                "Of the model and of its candidate.",
                "s",
                (
                    (
                        "histogram_quantile(0.95, sum by (model, served, le) "
                        f"(rate(actionrec_canary_seconds_bucket[{RATE}])))",
                        "{{model}}: {{served}}",
                    ),
                ),
            ),
        ),
    ),
    Board(
        "gpu",
        "Action recognition: GPUs",
        (
            Panel(
                f"{GPU}: busy",
                "Share of the time in which it computes. Low while requests wait: decoding is the limit.",
                "percent",
                (("DCGM_FI_DEV_GPU_UTIL", "{{Hostname}} {{gpu}}"),),
            ),
            Panel(
                f"{GPU}: memory in use",
                "It stays after the warm-up.",
                "decmbytes",
                (("DCGM_FI_DEV_FB_USED", "{{Hostname}} {{gpu}}"),),
            ),
            Panel(
                f"{GPU}: power",
                "Power says more than the share of time about how much it does.",
                "watt",
                (("DCGM_FI_DEV_POWER_USAGE", "{{Hostname}} {{gpu}}"),),
            ),
            Panel(
                "Requests that wait",
                "For a worker.",
                "short",
                (("max by (model) (actionrec_requests_waiting)", "{{model}}"),),
            ),
            Panel(
                "Decoding and inference, in seconds of work a second",
                "Which of the two is the limit.",
                "short",
                (
                    (
                        "sum by (stage) "
                        f'(rate(actionrec_stage_seconds_sum{{stage=~"decode|inference"}}[{RATE}]))',
                        "{{stage}}",
                    ),
                ),
            ),
        ),
    ),
)
