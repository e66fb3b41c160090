package consul

// For the suite that compares them with the language.
type (
	Config = config
)
