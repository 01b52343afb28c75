"""Where messages about findings go: mail, chat, and whoever is on call."""
