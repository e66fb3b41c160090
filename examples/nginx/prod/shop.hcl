# A source tree behind nginx on the same host: while it is replaced, nginx sends
# requests to the other host. The upstream file is shop.conf.example beside this
# folder, the unit shop.service.example.

service "shop" {
  hosts = { role = "shop" }

  release {
    version = "2.3.0"
    digest  = "git:0000000000000000000000000000000000000000"
  }

  drain "nginx" {
    upstream_file = "/etc/nginx/upstreams/shop.conf"
    server        = "127.0.0.1:9000" # exactly as the file has it
    reload        = ["systemctl", "reload", "nginx"]
    timeout       = "30s" # for nginx's old workers to end; then it goes on, and says so
  }

  install "git" {
    path  = "/srv/shop"
    url   = "https://git.acme.example/shop/shop.git"
    build = ["make", "build"]
    user  = "shop"
  }

  start "systemd" {
    unit = "shop.service"
  }

  check "http" {
    url    = "http://127.0.0.1:9000/healthz"
    expect = { status = 200, body = release.version }
  }
}
