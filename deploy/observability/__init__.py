"""What watches a server: Prometheus' rules, Grafana's dashboards, and a command that starts both for a look."""
