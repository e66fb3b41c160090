# A service that is its own source: the tree of a commit, built on the host as
# the service's user before anything is out of rotation. Its unit is
# site.service.example beside this folder.

service "site" {
  hosts = { role = "web" }

  release {
    version = "2026.11.23"
    digest  = "git:4b825dc642cb6eb9a060e54bf8d69288fbee4904"
  }

  drain "nginx" {
    upstream_file = "/etc/nginx/upstreams/site.conf"
    server        = "127.0.0.1:8082"
    reload        = ["systemctl", "reload", "nginx"]
  }

  install "git" {
    path  = "/srv/site"
    url   = "https://git.acme.example/site.git"
    user  = "site"
    build = ["make", "assets"]
  }

  start "systemd" {
    unit   = "site.service"
    action = "reload" # it opens its sockets once, and reads its tree again
  }

  check "http" {
    url    = "http://127.0.0.1:8082/version"
    expect = { status = 200, body = release.version }
  }
}

# What Debian packages already needs no artifact: apt's own signatures hold.

service "node-exporter" {
  hosts = {}

  release {
    version = "1.5.0-1+b6"
  }

  install "apt" {
    package = "prometheus-node-exporter"
  }

  start "systemd" {
    unit = "prometheus-node-exporter.service"
  }
}
