service "web" {
  hosts   = { role = "web", zone = ["a", "b"] } # labels a host must have; {} means every host, and must be said
  profile = "http"                              # blocks that this service does not write itself

  release { # the only block that pipelines write; literals only
    version = "1.4.2"
    digest  = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    # or per platform: digests = { "linux/amd64" = "sha256:…", "linux/arm64" = "sha256:…" }
    # attempt = 2: the same release again, after what was wrong around it was mended (`drydock retry`)
  }

  artifact {
    source  = "https://artifacts.acme.example/web/${release.version}/web-${host.os}-${host.arch}.tar.gz"
    mirrors = ["https://mirror.acme.example/web-${release.version}.tar.gz"]
    headers = { Authorization = credential("artifact-auth") } # to the source only: never to mirrors or redirects
  }

  drain "haproxy" {                            # any number; undrained in reverse order; a second
    address = "unix:///run/haproxy/admin.sock" # label tells two of a kind apart: drain "haproxy" "lb2"
    backend = "web"
    server  = host.name
    timeout = "30s" # for connections to reach zero; then it goes on, and says so
  }

  install "archive" {
    path = "/srv/web" # releases/<version>-<first 12 of digest>/ and the symlink current
    keep = 5
    user = "web"
  }

  migrate "sql" {
    engine     = "postgres"
    url        = credential("web-database-url") # read on the host when the step runs; never printed
    directory  = "migrations"                   # inside the release
    scope      = "fleet"                        # once per fleet and release; or "host"
    compatible = true                           # the previous release runs on the new schema, so a revert may cross it
    requires   = ["orders-index-built"]         # attestations, see 7
  }

  start "systemd" {
    unit   = "web.service"
    action = "restart" # restart, reload, none
  }

  check "http" {
    url      = "http://127.0.0.1:8080/healthz"
    expect   = { status = 200, body = release.version } # the body holds it as a whole word: proves the *new* process answers
    interval = "1s"
    timeout  = "2s"
  }

  rollout {
    max_parallel     = "25%" # hosts out at once, a number or a share (rounded down, at least 1)
    canary           = 1     # hosts first; the rest wait for bake
    bake             = "10m"
    min_healthy_time = "10s"
    healthy_deadline = "5m"
    auto_revert      = true # default
    splay            = "30s"
    window {
      days = ["mon", "tue", "wed", "thu"]
      from = "09:00"
      to   = "16:00"
      zone = "Europe/Berlin"
    }
  }

  approval {
    required = 2
    from     = ["alice@acme.example", "bob@acme.example", "carol@acme.example"]
    authors  = true # besides, each author in the batch who is in `from`; others are listed
  }

  batch { # past it, the waiting inventory is reported as overdue
    max_changes = 20
    max_age     = "24h"
  }
  depends_on = ["api"]
}
