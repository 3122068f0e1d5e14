-- One body to POST, again and again; prints what was measured as JSON.
local threads = {}
refused = 0

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   local file = assert(io.open(args[1], "rb"))
   wrk.body = file:read("*a")
   file:close()
   -- The credential comes by file, so that it is in no process list.
   local credential = assert(io.open(args[2], "rb")):read("*a")
   if #credential > 0 then
      wrk.headers["Authorization"] = credential
   end
   request_bytes = wrk.format()
end

function request()
   return request_bytes
end

function response(status)
   if status ~= 200 then
      refused = refused + 1
   end
end

function done(summary, latency, requests)
   local bad = 0
   for _, thread in ipairs(threads) do
      bad = bad + thread:get("refused")
   end
   local errors = summary.errors
   io.write(string.format(
      '\nJSON {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "refused": %d, "broken": %d}\n',
      summary.requests, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      bad, errors.connect + errors.read + errors.write + errors.timeout))
end
