# What services that answer over HTTP have in common.

profile "http" {
  check "http" {
    url    = "http://127.0.0.1:8080/healthz"
    expect = { status = 200, body = release.version }
  }

  rollout {
    min_healthy_time = "10s"
    healthy_deadline = "5m"
  }
}
