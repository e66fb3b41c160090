# Staging: the same service, every bump at once, no approval.

service "web" {
  hosts   = { role = "web" }
  profile = "http"

  release {
    version = "1.4.3"
    digest  = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  }

  artifact {
    source = "${local.artifacts}/web/${release.version}/web-${host.os}-${host.arch}.tar.gz"
  }

  drain "file" {
    path = "/run/web/in-rotation"
  }

  install "archive" {
    path = "/srv/web"
    keep = 3
  }

  migrate "command" {
    command    = ["bin/migrate", "up"]
    check      = ["bin/migrate", "status"]
    compatible = true
  }

  start "process" {
    command  = ["bin/web"]
    env_file = "/etc/web/env"
    user     = "web"
  }

  run "warm-up" {
    after   = "start"
    command = ["bin/web", "warm"]
    timeout = "1m"
  }
}
