# A stateful service: a daemon under systemd with a PostgreSQL database, whose
# migrations are part of each release and whose data is saved before they run.
#
# Provisioning makes what Drydock does not: the user and the unit orders (see
# orders.service.example beside this folder), the database and its role, /etc/drydock/credentials/orders-database with its URL
# (postgres://orders:…@db.acme.example/orders), and the backup program.
# `hostagent check-host` says which of them is missing.

service "orders" {
  hosts = { role = "orders" }

  release {
    version = "1.0.0"
    digest  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }

  artifact {
    source = "https://artifacts.acme.example/orders/${release.version}/orders-${host.os}-${host.arch}.tar.gz"
  }

  drain "haproxy" {
    address = "unix:///run/haproxy/admin.sock"
    backend = "orders"
    server  = host.name
  }

  install "archive" {
    path = "/srv/orders"
    user = "orders"
  }

  run "backup" { # before the data is touched; if it fails nothing was, and the release before comes back
    before  = "migrate"
    command = ["/usr/local/bin/backup-orders"]
    timeout = "20m"
  }

  migrate "sql" {
    engine     = "postgres"
    url        = credential("orders-database")
    directory  = "migrations" # inside the release: 00001_create_orders.sql …, as goose has them
    compatible = false        # the release before does not run on the new schema: a failure after it halts, and asks a person
    timeout    = "30m"
  }

  start "systemd" {
    unit    = "orders.service"
    timeout = "60s"
  }

  check "http" {
    url    = "http://127.0.0.1:8083/healthz"
    expect = { status = 200, body = release.version }
  }

  check "systemd" {
    unit = "orders.service"
  }
}
