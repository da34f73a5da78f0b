import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import {
  MAX_KEEP_TTL_MS,
  MAX_LATEST_TTL_MS,
  MAX_REPLICA_TTL_MS,
  MAX_RUNNING_TTL_MS
} from '../../../src/directory/limits.ts'
import { RowanError } from '../../../src/errors.ts'
import { defaultSettings, loadSettings, parseSettings } from '../../../src/node/settings.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'

afterEach(removeFolders)

function refusal(toml: string): string {
  try {
    parseSettings(toml, 'my.toml')
  } catch (error) {
    if (!(error instanceof RowanError)) throw error
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toContain('my.toml')
    return error.message
  }
  throw new Error('it was accepted')
}

test('the defaults that scripts rely on, in the units of the code', () => {
  const { directory, gc, pool, swarm } = defaultSettings()
  const dayMs = 86_400_000
  expect(directory).toEqual({
    serve: 'auto',
    latestTtlMs: 7 * dayMs,
    replicaTtlMs: 3_600_000,
    sharerTtlMs: 1_800_000,
    keepTtlMs: 60 * dayMs,
    memoryBytes: 64 * 1024 * 1024
  })
  expect(gc.graceMs).toBe(7 * dayMs)
  expect(pool.quotaBytes).toBe(50e9)
  expect(swarm.maxUploadBytesPerSecond).toBe(Number.POSITIVE_INFINITY)
})

test('a file overrides what it names and leaves the rest', () => {
  const settings = parseSettings(
    '[directory]\nlatestTtl = "30s"\n[pool]\nquota = "64GiB"\n[swarm]\nmaxUpload = "10Mbit"\nmaxPeers = 5\n[network]\nlisten = []',
    'f'
  )
  expect(settings.directory.latestTtlMs).toBe(30_000)
  expect(settings.directory.replicaTtlMs).toBe(3_600_000)
  expect(settings.pool.quotaBytes).toBe(64 * 1024 ** 3)
  expect(settings.swarm).toMatchObject({ maxUploadBytesPerSecond: 1_250_000, maxPeers: 5 })
  expect(settings.network.listen).toEqual([])
})

describe('an unknown key is an error that names the nearest known one', () => {
  test.each([
    ['[directory]\nlatestTTL = "7d"', '[directory] latestTTL', '[directory] latestTtl'],
    ['[swarm]\nmaxUplaod = "1Mbit"', '[swarm] maxUplaod', '[swarm] maxUpload'],
    ['[swam]\nmaxPeers = 3', '[swam] maxPeers', '[swarm] maxPeers'],
    ['[directory]\nsharersTtl = "1h"', '[directory] sharersTtl', '[directory] sharerTtl'],
    ['quota = "5GB"', 'unknown key quota', '[pool] quota'],
    ['[pool]\nconstructor = 1', '[pool] constructor', '[pool] quota']
  ])('%j', (toml, named, nearest) => {
    const says = refusal(toml)
    expect(says).toContain(named)
    expect(says.endsWith(nearest)).toBe(true)
  })
})

describe('a value of a wrong kind is an error that names the key', () => {
  test.each([
    ['[directory]\nlatestTtl = 30', '[directory] latestTtl', 'write a duration like "7d"'],
    ['[directory]\nlatestTtl = "30"', '[directory] latestTtl', 'is not a duration'],
    ['[directory]\nlatestTtl = "91d"', '[directory] latestTtl', 'longer than "90d"'],
    ['[pool]\nquota = "50"', '[pool] quota', 'is not a size'],
    ['[swarm]\nmaxUpload = "fast"', '[swarm] maxUpload', 'is not a rate'],
    ['[swarm]\nmaxPeers = 0', '[swarm] maxPeers', 'from 1 to 4096'],
    ['[swarm]\nmaxPeers = 2.5', '[swarm] maxPeers', 'whole number'],
    ['[network]\nlisten = "/ip4/0.0.0.0/tcp/1"', '[network] listen', 'is not a list'],
    ['[network]\nlisten = [1]', '[network] listen', 'is not a list'],
    ['[directory]\nserve = "maybe"', '[directory] serve', '"auto", "always", "never"']
  ])('%j', (toml, key, why) => {
    const says = refusal(toml)
    expect(says).toContain(key)
    expect(says).toContain(why)
  })
})

test('nothing can be said for longer than other peers believe it', () => {
  const longest = {
    latestTtl: MAX_LATEST_TTL_MS,
    replicaTtl: MAX_REPLICA_TTL_MS,
    sharerTtl: MAX_RUNNING_TTL_MS,
    keepTtl: MAX_KEEP_TTL_MS
  }
  for (const [name, ms] of Object.entries(longest)) {
    parseSettings(`[directory]\n${name} = "${ms}ms"`, 'my.toml')
    expect(refusal(`[directory]\n${name} = "${ms + 1}ms"`)).toContain(`[directory] ${name}`)
  }
})

test('a list that is too long is refused', () => {
  expect(refusal(`[network]\nbootstrap = [${'"x",'.repeat(65)}]`)).toContain('more than 64')
})

test('a syntax error names its line', () => {
  expect(refusal('[pool]\nquota = 50GB\n')).toContain('line 2')
})

test('a missing file is the defaults, unless it was asked for', async () => {
  const file = join(await temporaryFolder(), 'config.toml')
  expect(loadSettings(file, { optional: true })).toEqual(defaultSettings())
  expect(() => loadSettings(file, { optional: false })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  await writeFile(file, '[log]\nlevel = "debug"\n')
  expect(loadSettings(file, { optional: true }).log.level).toBe('debug')
})
