package sql_test

const victimEnv = "DRYDOCK_SQL_VICTIM"

func victim(string) int { return 1 }
