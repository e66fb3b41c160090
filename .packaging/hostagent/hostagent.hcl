# The host's own file. Copy it to /etc/drydock/hostagent.hcl, change it, and
# start the agent: systemctl enable --now hostagent
# Every word of it: man hostagent.hcl. A change is noticed by itself.

environment = "prod" # the folder of the repository that this host follows

host {
  # name   = "web-1"               # default: the hostname
  # labels = { role = "web" }      # what services select hosts by
}

source {
  url = "https://git.acme.example/ops/releases.git" # https, ssh, git, or a path

  # branch = "main"
  # token  = credential("git-token")            # https; the file of that name in `credentials`
  # ssh_key     = "/etc/drydock/ssh_key"        # ssh
  # known_hosts = "/etc/drydock/known_hosts"
}

# credentials = "/etc/drydock/credentials"      # one file a credential, readable by root only;
#                                               # or LoadCredential= in a drop-in of the unit
# listen      = "127.0.0.1:9745"                # /metrics, /healthz, /readyz

# coordinate "alone" {}                         # the only host there is
