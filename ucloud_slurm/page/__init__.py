"""The operator's page: jobs, messages, people, wallets, drives and use in a browser, served apart from the web service."""
