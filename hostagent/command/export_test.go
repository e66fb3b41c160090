package command

// For the suite that compares them with the language.
type (
	DrainConfig   = drainConfig
	InstallConfig = installConfig
	MigrateConfig = migrateConfig
	StartConfig   = startConfig
	CheckConfig   = checkConfig
	HookConfig    = hookConfig
)
