"""How gunicorn serves uploads and downloads: /etc/ucloud-slurm/gunicorn-files.conf.py.

The unit ucloud-slurm-files.service names this file. It needs gunicorn 27.
"""

# systemd passes the socket (ucloud-slurm-files.socket), and this path is not used.
bind = "unix:/run/ucloud-slurm-files/files.sock"

# One process, which counts what it serves. A transfer has a thread as long as it takes: as many threads as
# transfers.at_once of config.toml, and some more that answer what is refused.
workers = 1
worker_class = "ucloud_slurm.transfer.worker.Worker"
threads = 128
worker_connections = 512

# A process whose loop does not come round for so many seconds is replaced; its threads may wait for as long as they like.
timeout = 30
# Chunks of uploads have so many seconds to finish at a stop. What breaks off is continued by the browser; copies and other
# long changes go on in the next process at once.
graceful_timeout = 15
# One request for each connection: nginx must not take a connection for good on which a file broke off.
keepalive = 0

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

# Errors go to standard error, which is the journal. There is no log of requests: their addresses hold tokens.
errorlog = "-"
logger_class = "ucloud_slurm.web.server.log.Log"  # in the form that journal.format says
loglevel = "info"
accesslog = None
