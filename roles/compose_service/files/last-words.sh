# What an admin would look at first, of the containers named in $1.
for container in $1; do
    docker inspect --format '{{.Name}} is {{.State.Status}}, {{.RestartCount}} restarts, exit code {{.State.ExitCode}}
{{- with .State.Error}}, {{.}}{{end}}
{{- with .State.Health}}, {{.Status}}
    {{- if ne .Status "healthy"}}{{range .Log}}
    health check ended with {{.ExitCode}}: {{.Output}}{{end}}{{end}}
{{- end}}' "$container" 2>/dev/null | grep . | cut -c 1-400 | head -n 12
done
docker compose --ansi never logs --no-color --tail 25 $1 2>&1
