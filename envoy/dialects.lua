-- An error reads as the path's protocol has it, whoever refused: the engine, or the proxy itself. What comes here is a
-- `google.rpc.Status` as JSON; its texts are taken over as they stand there, escapes and all.
-- `dialect` stands before this program.

local TYPES = {
  ["400"] = "invalid_request_error", ["401"] = "authentication_error", ["403"] = "permission_error",
  ["404"] = "not_found_error", ["413"] = "invalid_request_error", ["429"] = "rate_limit_error",
}

-- The text, in its quotes, that stands first behind a name; nil where none does.
local function text_of(json, name)
  local _, at = json:find('"' .. name .. '":%s*"')
  if not at then return nil end
  local place = at + 1
  while true do
    local found = json:find('["\\]', place)
    if not found then return nil end
    if json:byte(found) == 34 then return json:sub(at, found) end
    place = found + 2
  end
end

local function said(json, status)
  local message = text_of(json, "message") or '"the request failed"'
  if dialect == "open_inference" then
    return '{"error":' .. message .. "}"
  end
  local kind = TYPES[status] or (status < "500" and "invalid_request_error" or "server_error")
  local reason = text_of(json, "reason")
  return '{"error":{"message":' .. message .. ',"type":"' .. kind .. '","param":' .. (text_of(json, "field") or "null")
    .. ',"code":' .. (reason and reason:lower() or "null") .. "}}"
end

-- The Open Inference Protocol says nothing in queries, and its servers take no notice of them.
function envoy_on_request(handle)
  if dialect ~= "open_inference" then return end
  local path = handle:headers():get(":path")
  local query = path:find("?", 1, true)
  if query then handle:headers():replace(":path", path:sub(1, query - 1)) end
end

function envoy_on_response(handle)
  local status = handle:headers():get(":status")
  if status < "400" then return end
  local body = handle:body(true)
  if not body then return end
  local text = said(body:getBytes(0, body:length()), status)
  local headers = handle:headers()  -- what was taken before the body had to be waited for does not hold any more
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(body:setBytes(text)))
end
