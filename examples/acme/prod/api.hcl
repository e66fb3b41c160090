# What web depends on: no load balancer, no database, one binary.

service "api" {
  hosts   = { role = "web" }
  profile = "http"

  release {
    version = "2.0.1"
    digests = {
      "linux/amd64" = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
      "linux/arm64" = "sha256:fd61a03af4f77d870fc21e05e7e80678095c92d808cfb3b5c279ee04c74aca13"
    }
  }

  artifact {
    source = "${local.artifacts}/api/${release.version}/api-${host.os}-${host.arch}"
  }

  drain "file" {
    path = "/run/api/in-rotation"
  }

  install "binary" {
    path = "/srv/api"
    name = "api"
  }

  start "process" {
    command = ["api", "--listen", "127.0.0.1:8081"]
    user    = "api"
  }

  check "http" {
    url    = "http://127.0.0.1:8081/healthz"
    expect = { status = 200, body = release.version }
  }
}

freeze "Christmas" {
  services = ["api", "web"]
  from     = "2026-12-23T00:00:00Z"
  until    = "2027-01-02T00:00:00Z"
}
