"""The servers that `raymill up` runs by itself: PostgreSQL, Valkey and a Ray head, each the real one."""
