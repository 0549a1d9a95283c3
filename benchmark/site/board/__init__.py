"""The leaderboard: records in, rows with ranks and intervals out. No torch."""
