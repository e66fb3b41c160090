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

# Whose signatures count. Without it any commit of the branch is accepted, and
# every status says unverified.
# trust {
#   signers = "/etc/drydock/allowed_signers"    # OpenSSH's format: alice@acme.example namespaces="git,drydock" ssh-ed25519 AAAA…
#   # the commit that is taken on trust (git rev-parse main); every later one is verified
#   since = "0c1f7f3a5b6d8e9f00112233445566778899aabb"
#
#   role "people" {
#     principals = ["alice@acme.example", "bob@acme.example"]
#     may        = ["any"]
#     people     = true                         # these are counted in approvals, and may vouch
#   }
#   role "pipeline" {
#     principals   = ["ci@acme.example"]
#     may          = ["bump"]                   # a new version and digest, and not one byte more
#     environments = ["staging"]
#   }
#
#   # revoked   = "/etc/drydock/revoked_keys"   # SSH keys that count no longer
#   # keyring   = "/etc/drydock/people.gpg"     # OpenPGP public keys
#   # approvals = { prod = 2 }                  # so many people at least, whatever the repository asks for
#   # freshness = "168h"                        # nothing newer for so long: nothing new begins
# }

# coordinate "alone" {}                         # the only host there is
