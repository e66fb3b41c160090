# Applies to every environment. Any *.hcl file at the root does.

locals {
  artifacts = "https://artifacts.acme.example"
}
