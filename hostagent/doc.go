// Package hostagent is the agent on a host: it follows a config repository,
// compares it with what the host runs, and lets the engine carry out the
// difference. Everything it touches comes in through small interfaces; the
// technologies behind them each stand in a package below this one.
package hostagent
