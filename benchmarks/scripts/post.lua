-- Sends one request again and again: posts a body, or gets if that is empty. Arguments: the file of the body, the API key
-- ("-" for none), and then "count" to look at each answer (which costs the load's core more), "once" to send another
-- Idempotency-Key with each request, or a file of paths that are asked in turn. Says what happened as one line of JSON.

local threads = {}
answered, refused, unexplained, other = 0, 0, 0, 0

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    math.randomseed(os.time())
    local file = assert(io.open(args[1], "rb"))
    local body = file:read("*a")
    file:close()
    if body ~= "" then
        wrk.method = "POST"
        wrk.body = body
        wrk.headers["Content-Type"] = "application/json"
    end
    if args[2] ~= "-" then
        wrk.headers["X-API-KEY"] = args[2]
    end
    for index = 3, #args do
        if args[index] == "count" then
            response = note
        elseif args[index] == "once" then
            send_once(wrk.headers)
        else
            send_in_turn(args[index])
        end
    end
end

-- The text of a request is made beforehand, but for its key: making each costs several times what sending it does.
function send_once(headers)
    headers["Idempotency-Key"] = "@"
    local text = wrk.format(nil, nil, headers)
    local before, after = text:match("^(.-Idempotency%-Key: )@(.*)$")
    local run, sent = string.format("%d-%d-", os.time(), math.random(1e9)), 0
    request = function()
        sent = sent + 1
        return before .. run .. sent .. after
    end
end

function send_in_turn(file)
    local texts, sent = {}, 0
    for path in io.lines(file) do
        table.insert(texts, wrk.format(nil, path))
    end
    request = function()
        sent = sent + 1
        return texts[sent % #texts + 1]
    end
end

function note(status, headers, body)
    if status == 200 then
        answered = answered + 1
    elseif status == 503 then
        refused = refused + 1
        if not (headers["Retry-After"] or headers["retry-after"]) then
            unexplained = unexplained + 1
        end
    else
        other = other + 1
    end
end

local function total(name)
    local sum = 0
    for _, thread in ipairs(threads) do
        sum = sum + thread:get(name)
    end
    return sum
end

function done(summary, latency, requests)
    local errors = summary.errors
    local lost = errors.connect + errors.read + errors.write + errors.timeout
    io.write(string.format(
        '\n{"requests":%d,"seconds":%.6f,"not_fine":%d,"lost":%d,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,'
            .. '"answered":%d,"refused":%d,"unexplained":%d,"other":%d}\n',
        summary.requests, summary.duration / 1e6, errors.status, lost,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
        total("answered"), total("refused"), total("unexplained"), total("other")))
end
