/**
 * The URL of a web seed: a folder on a web server in which images lie as files (web-pack.ts).
 *
 * A publisher signs it, and every peer of the appliance may call it; so it has one spelling, and nothing in it but a place: no user,
 * no password, no query. What it may lead to is judged when it is called (node/http-network.ts).
 */
import { RowanError } from '../errors.ts'
import { quote } from './hash.ts'

/** Of one release. */
export const MAX_WEB_SEEDS = 4
const MAX_WEB_SEED_CHARACTERS = 256

/** A URL as a person writes it, in its one spelling. @throws WEB_SEED_URL_INVALID */
export function webSeedUrl(text: string): string {
  if (text.length > 2 * MAX_WEB_SEED_CHARACTERS || !URL.canParse(text)) throw invalid(text, 'it is no URL')
  const url = new URL(text)
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  checkWebSeed(url.href)
  return url.href
}

/** @throws WEB_SEED_URL_INVALID unless there are none, or a few different ones, each in its one spelling */
export function checkWebSeeds(urls: readonly string[] | undefined): void {
  if (urls === undefined) return
  if (urls.length === 0 || urls.length > MAX_WEB_SEEDS || new Set(urls).size !== urls.length) {
    const says = `${urls.length} web seeds; it must be 1 to ${MAX_WEB_SEEDS} different ones`
    throw new RowanError('WEB_SEED_URL_INVALID', says)
  }
  for (const url of urls) checkWebSeed(url)
}

function checkWebSeed(text: string): void {
  if (text.length > MAX_WEB_SEED_CHARACTERS) throw invalid(text, `the limit is ${MAX_WEB_SEED_CHARACTERS} characters`)
  if (!URL.canParse(text)) throw invalid(text, 'it is no URL')
  const { href, protocol, username, password, search, hash, pathname } = new URL(text)
  if (protocol !== 'https:' && protocol !== 'http:') throw invalid(text, 'it must begin with https:// or http://')
  if (username !== '' || password !== '') throw invalid(text, 'it names a user')
  if (search !== '' || hash !== '' || text.includes('?') || text.includes('#'))
    throw invalid(text, 'it has more than a path')
  if (href !== text || !pathname.endsWith('/'))
    throw invalid(text, `it is not spelled like ${quote(href)}, with a slash at its end`)
}

function invalid(text: string, why: string): RowanError {
  return new RowanError('WEB_SEED_URL_INVALID', `${quote(text)} cannot be a web seed: ${why}`)
}
