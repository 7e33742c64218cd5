"""How gunicorn serves the provider: /etc/ucloud-slurm/gunicorn.conf.py.

The service file names this file. It needs gunicorn 27.
"""

# systemd passes the socket (ucloud-slurm.socket) and this path is not used, except where the service is started without
# systemd. A site whose proxy cannot use a unix socket adds a TCP port to the socket unit, in a drop-in:
#     [Socket]
#     ListenStream=127.0.0.1:8889
# What that costs: everybody on this host may connect and use up what strangers may use, and any account that takes the
# port while systemd does not hold it receives UCloud's token. `ucloud-slurm check` warns of it.
bind = "unix:/run/ucloud-slurm/web.sock"

# Requests wait for Slurm and for the disk, not for a CPU: few processes, many threads. The worker class reads a request
# before it spends a thread on it, and splits the threads of a process: half of them are for UCloud, the others for
# browsers with a session, for operators and for everybody else.
workers = 2
worker_class = "ucloud_slurm.web.server.worker.Worker"
threads = 32

# A process without a heartbeat for so many seconds is replaced. No request takes that long: what Slurm does not do at
# once, the worker (ucloud-slurm-worker.service) does later.
timeout = 30
# Requests that run at a stop have so many seconds to finish.
graceful_timeout = 10
keepalive = 5

# Calls of UCloud have short paths; a token has about 700 characters, and one above 8192 is refused.
limit_request_line = 4094
limit_request_fields = 50
limit_request_field_size = 8190

# No header of a proxy changes what gunicorn tells the application.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers = {}

# The heartbeat must not wait for a disk.
worker_tmp_dir = "/dev/shm"  # noqa: S108
umask = 0o077

# gunicorn's control socket (since 25.1) is not needed: systemd controls it.
control_socket_disable = True

# Errors go to standard error, which is the journal; the proxy logs requests.
errorlog = "-"
logger_class = "ucloud_slurm.web.server.log.Log"  # in the form that journal.format says
loglevel = "info"
accesslog = None


# The unit names a directory in which the processes keep their metrics, so that each can show those of all
# (https://prometheus.github.io/client_python/multiprocess/). Without it every process shows its own.


def on_starting(_server):
    """Deletes the metrics of an earlier start."""
    import os
    from pathlib import Path

    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for file in Path(folder).glob("*.db") if folder else ():
        file.unlink()


def child_exit(_server, worker):
    """Lets the metrics library forget a process that has ended."""
    import os

    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)
