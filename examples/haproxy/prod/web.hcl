# A service behind HAProxy on the same host. What HAProxy needs for it stands in
# haproxy.cfg.example and haproxy-reload.conf.example beside this folder, its
# unit in web.service.example.

service "web" {
  hosts = { role = "web" }

  release {
    version = "1.0.0"
    digest  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }

  artifact {
    source = "https://artifacts.acme.example/web/${release.version}/web-${host.os}-${host.arch}.tar.gz"
  }

  drain "haproxy" {
    address = "unix:///run/haproxy/admin.sock"
    backend = "web"
    server  = host.name # as the server line of haproxy.cfg has it
    timeout = "30s"     # for sessions to end, and for HAProxy's own check to find the service again
  }

  install "archive" {
    path = "/srv/web"
    user = "web"
  }

  start "systemd" {
    unit = "web.service"
  }

  check "http" {
    url    = "http://127.0.0.1:8080/healthz"
    expect = { status = 200, body = release.version }
  }
}
