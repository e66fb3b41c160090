# Applies to every environment.

min_version = "0.1"

locals {
  artifacts = "https://artifacts.acme.example"
}

notify "slack" {
  url = credential("slack-hook")
}
