-- One body to POST, again and again; prints what was measured as JSON.
-- Arguments: the file of the body, the file of credentials, and any number of headers "Name: value" and paths "/…".
local threads = {}
refused = 0
local prepared, turn = {}, 0

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   local file = assert(io.open(args[1], "rb"))
   wrk.body = file:read("*a")
   file:close()
   local paths = {}
   for index = 3, #args do
      local name, value = args[index]:match("^([^/ ]+): (.*)$")
      if name then
         wrk.headers[name] = value
      else
         table.insert(paths, args[index])
      end
   end
   if #paths == 0 then
      table.insert(paths, wrk.path)
   end
   -- Credentials come by file, one a line, so that they are in no process list; requests take them in turn.
   for credential in io.lines(args[2]) do
      wrk.headers["Authorization"] = credential
      prepare(paths)
   end
   if #prepared == 0 then
      prepare(paths)
   end
end

function prepare(paths)
   for _, path in ipairs(paths) do
      table.insert(prepared, wrk.format(nil, path))
   end
end

function request()
   turn = turn % #prepared + 1
   return prepared[turn]
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
