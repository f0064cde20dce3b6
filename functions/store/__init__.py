"""The database: tables, sessions, statements, migrations."""
