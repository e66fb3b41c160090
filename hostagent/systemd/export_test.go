package systemd

// For the suite that compares them with the language.
type (
	Config      = config
	CheckConfig = checkConfig
)
