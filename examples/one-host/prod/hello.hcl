# One service on the only host there is: nothing but a program that answers.

service "hello" {
  hosts = {}

  release {
    version = "1.0.0"
    digest  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }

  artifact {
    source = "file:///srv/artifacts/hello-${release.version}.tar.gz"
  }

  drain "file" {
    path = "/srv/hello/in-rotation"
    wait = "1s"
  }

  install "archive" {
    path = "/srv/hello"
  }

  start "process" {
    command = ["bin/hello"]
    env     = { PORT = "8080" }
  }

  check "http" {
    url    = "http://127.0.0.1:8080/"
    expect = { status = 200, body = release.version }
  }
}
