"""The database itself: opening it, its tables, transactions, rows and the errors of its drivers."""
