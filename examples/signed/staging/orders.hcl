service "orders" {
  hosts = {}

  release {
    version = "1.4.2"
    digest  = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
  }

  artifact {
    source = "https://artifacts.acme.example/orders-${release.version}.tar.gz"
  }

  install "archive" {
    path = "/srv/orders"
  }

  migrate "sql" {
    engine    = "postgres"
    url       = credential("orders-database-url")
    directory = "migrations"
  }

  start "systemd" {
    unit = "orders.service"
  }

  check "http" {
    url    = "http://127.0.0.1:8081/healthz"
    expect = { status = 200, body = release.version }
  }
}
