service "web" {
  hosts   = { role = "web" } # labels a host must have; {} means every host
  profile = "http"

  # The only block that pipelines write: drydock bump web --env staging …
  release {
    version = "0.0.0"
    digest  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
}
