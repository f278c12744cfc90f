require "json"
require_relative "webhook"

secret, body, requests = ARGV
File.readlines(requests).each { |line| puts verify(File.binread(body), JSON.parse(line), secret) }
