# A profile holds blocks that services share. A service that writes any block of
# a type itself replaces all of that type.

profile "http" {
  artifact {
    source = "${local.artifacts}/${service.name}/${release.version}/${service.name}.tar.gz"
  }

  # The load balancer's health check reads this file: no file, no requests.
  drain "file" {
    path = "/run/${service.name}/in-rotation"
    wait = "5s"
  }

  install "archive" {
    path = "/srv/${service.name}"
  }

  # Drydock starts and watches the process, and the next agent takes it up again.
  # A service that something else looks after has start "command" instead.
  start "process" {
    command = ["bin/${service.name}"]
  }

  # The body holds the version, so that it is the new process that answers.
  check "http" {
    url    = "http://127.0.0.1:8080/healthz"
    expect = { status = 200, body = release.version }
  }
}
