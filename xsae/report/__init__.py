"""What a run shows: tables with their references and figures."""
