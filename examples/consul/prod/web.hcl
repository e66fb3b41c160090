# A service that clients find in Consul: while it is replaced it is in
# maintenance mode, and Consul names it to nobody. Its unit is that of
# ../haproxy/web.service.example.

service "web" {
  hosts = { role = "web" }

  release {
    version = "1.0.0"
    digest  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }

  artifact {
    source = "https://artifacts.acme.example/web/${release.version}/web-${host.os}-${host.arch}.tar.gz"
  }

  drain "consul" {
    address    = "http://127.0.0.1:8500"
    service_id = "web-${host.name}"         # its id at this agent, which is not its name
    token      = credential("consul-token") # service:write for web, node:read for this node
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
