service "orders" {
  hosts = {}

  release {
    version = "1.4.1"
    digest  = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
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
    requires  = ["orders-index-built"] # drydock attest orders orders-index-built --env prod
  }

  start "systemd" {
    unit = "orders.service"
  }

  check "http" {
    url    = "http://127.0.0.1:8081/healthz"
    expect = { status = 200, body = release.version }
  }

  approval { # drydock approve orders --env prod; nobody approves alone what they made
    required = 2
    from     = ["alice@acme.example", "bob@acme.example", "carol@acme.example"]
  }
}
