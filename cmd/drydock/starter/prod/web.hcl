service "web" {
  hosts   = { role = "web" }
  profile = "http"

  # The only block that pipelines write: drydock bump web --env prod …
  release {
    version = "0.0.0"
    digest  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
}
