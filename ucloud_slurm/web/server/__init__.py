"""How the web service reads requests: gunicorn's worker with budgets for each class of callers."""
