-- A REST body that holds a name which its contract does not know is refused; the transcoder would drop it silently.
-- `bindings` (verb, path, message) and `types` (message -> field -> message below, or true) come from the contracts.
-- Whatever is no JSON is let through: the transcoder says so itself.

local MOST_LEVELS = 64

local function past_blank(text, at)
  return text:find("[^ \t\r\n]", at) or #text + 1
end

-- Behind the text that begins at `at`; nil where it does not end.
local function past_text(text, at)
  local place = at + 1
  while true do
    local found = text:find('["\\]', place)
    if not found then return nil end
    if text:byte(found) == 34 then return found + 1 end
    place = found + 2
  end
end

-- Behind the value that begins at `at`, whatever is in it.
local function past_value(text, at)
  local levels = 0
  local first = text:sub(at, at)
  if first == '"' then return past_text(text, at) end
  if first ~= "{" and first ~= "[" then return text:find("[,%]}]", at) end
  while true do
    local found = text:find('["{}%[%]]', at)
    if not found then return nil end
    local sign = text:sub(found, found)
    if sign == '"' then
      at = past_text(text, found)
      if not at then return nil end
    else
      levels = levels + ((sign == "{" or sign == "[") and 1 or -1)
      at = found + 1
      if levels == 0 then return at end
    end
  end
end

-- Looks at the message that begins at `at`: the place behind it, or nil and the name that is unknown and its message.
local function check(text, at, message, levels)
  at = past_blank(text, at)
  local first = text:sub(at, at)
  if levels > MOST_LEVELS then return nil end
  if first == "[" then
    at = past_blank(text, at + 1)
    if text:sub(at, at) == "]" then return at + 1 end
    while true do
      local unknown, of
      at, unknown, of = check(text, at, message, levels + 1)
      if not at then return nil, unknown, of end
      at = past_blank(text, at)
      local sign = text:sub(at, at)
      if sign == "]" then return at + 1 end
      if sign ~= "," then return nil end
      at = at + 1
    end
  end
  if first ~= "{" then return past_value(text, at) end
  at = past_blank(text, at + 1)
  if text:sub(at, at) == "}" then return at + 1 end
  while true do
    if text:sub(at, at) ~= '"' then return nil end
    local behind = past_text(text, at)
    if not behind then return nil end
    local name = text:sub(at + 1, behind - 2)
    at = past_blank(text, behind)
    if text:sub(at, at) ~= ":" then return nil end
    at = past_blank(text, at + 1)
    local below = types[message][name]
    if below == nil and not name:find("\\", 1, true) then return nil, name, message end
    local unknown, of
    if type(below) == "string" then
      at, unknown, of = check(text, at, below, levels + 1)
    else
      at = past_value(text, at)
    end
    if not at then return nil, unknown, of end
    at = past_blank(text, at)
    local sign = text:sub(at, at)
    if sign == "}" then return at + 1 end
    if sign ~= "," then return nil end
    at = past_blank(text, at + 1)
  end
end

local function known_of(message)
  local names = {}
  for name in pairs(types[message]) do
    if not name:find("_", 1, true) then names[#names + 1] = name end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function message_at(verb, path)
  path = path:match("^[^?]*")
  for _, binding in ipairs(bindings) do
    if binding[1] == verb and path:match(binding[2]) then return binding[3] end
  end
  return nil
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local message = message_at(headers:get(":method"), headers:get(":path") or "")
  local body = message and handle:body()
  if not body or body:length() == 0 then return end
  local _, unknown, of = check(body:getBytes(0, body:length()), 1, message, 0)
  if unknown then
    local shown = unknown:sub(1, 64):gsub("[^%w_.-]", "?")
    handle:respond({[":status"] = "400"}, "the body holds `" .. shown .. "`, which is unknown there; known are " .. known_of(of))
  end
end
