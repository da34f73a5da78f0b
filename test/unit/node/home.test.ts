import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { homePaths, makeHome, resolveHome } from '../../../src/node/home.ts'
import { checkSocketPath, MAX_SOCKET_PATH_BYTES } from '../../../src/socket-path.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'

afterEach(removeFolders)

const modeOf = async (path: string) => (await stat(path)).mode & 0o777

describe('which home is meant', () => {
  test('--home before $ROWAN_HOME before the platform', () => {
    const env = { ROWAN_HOME: '/env', XDG_DATA_HOME: '/xdg', HOME: '/user' }
    expect(resolveHome('/given', env, 'linux')).toBe('/given')
    expect(resolveHome(undefined, env, 'linux')).toBe('/env')
    expect(resolveHome(undefined, { ...env, ROWAN_HOME: '' }, 'linux')).toBe('/xdg/rowan')
    expect(resolveHome(undefined, { HOME: '/user' }, 'linux')).toBe('/user/.local/share/rowan')
    expect(resolveHome(undefined, { HOME: '/user', XDG_DATA_HOME: 'relative' }, 'linux')).toBe(
      '/user/.local/share/rowan'
    )
    expect(resolveHome(undefined, { HOME: '/user' }, 'darwin')).toBe('/user/Library/Application Support/rowan')
    expect(resolveHome('relative', {}, 'linux')).toBe(join(process.cwd(), 'relative'))
  })
})

test('a home is made with its folders, for its owner only, whatever the umask', async () => {
  const before = process.umask(0)
  try {
    const home = makeHome(join(await temporaryFolder(), 'a', 'home'))
    const { directory, keys, catalog, pool, machines, tmp, compiled, nbdSockets } = home
    for (const folder of [directory, keys, catalog, pool, machines, tmp, compiled, nbdSockets]) {
      expect(await modeOf(folder)).toBe(0o700)
    }
    expect(makeHome(home.directory)).toEqual(home)
  } finally {
    process.umask(before)
  }
})

test('a home that was open to others is closed, its keys too', async () => {
  const home = makeHome(await temporaryFolder())
  await chmod(home.directory, 0o755)
  await chmod(home.keys, 0o755)
  await writeFile(home.config, '')
  makeHome(home.directory)
  expect(await modeOf(home.directory)).toBe(0o700)
  expect(await modeOf(home.keys)).toBe(0o700)
})

test('a folder that is used for something else is never closed, and refused if others may write to it', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'thesis.tex'), '')
  await chmod(folder, 0o755)
  makeHome(folder)
  expect(await modeOf(folder)).toBe(0o755)
  await chmod(folder, 0o1777)
  expect(() => makeHome(folder)).toThrow(expect.objectContaining({ code: 'HOME_UNUSABLE' }))
  expect((await stat(folder)).mode & 0o7777).toBe(0o1777)
})

test('a home that cannot be made says which path', async () => {
  const file = join(await temporaryFolder(), 'file')
  await writeFile(file, '')
  for (const path of [file, join(file, 'home')]) {
    expect(() => makeHome(path)).toThrow(
      expect.objectContaining({ code: 'HOME_UNUSABLE', message: expect.stringContaining(path) })
    )
  }
})

test('a home that cannot be made is refused at once, whatever stands in its way', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'file'), '')
  await symlink(join(folder, 'nowhere'), join(folder, 'link'))
  // In /proc a folder is there, and making one in it fails as if it were not.
  for (const home of [join(folder, 'file'), join(folder, 'file', 'home'), join(folder, 'link'), '/proc/rowan/home']) {
    expect(() => makeHome(home)).toThrow(expect.objectContaining({ code: 'HOME_UNUSABLE' }))
  }
})

describe('a socket path that is too long', () => {
  test('is refused before anything is made, naming path and length', async () => {
    const parent = await temporaryFolder()
    const directory = join(parent, 'h'.repeat(110))
    const path = homePaths(directory).controlSocket
    expect(() => makeHome(directory)).toThrow(
      expect.objectContaining({
        code: 'SOCKET_PATH_TOO_LONG',
        message: `the socket path ${path} has ${path.length} bytes, ${MAX_SOCKET_PATH_BYTES} are allowed`
      })
    )
    expect(await readdir(parent)).toEqual([])
  })

  test('is measured in bytes, and the longest one that is allowed can be listened on', async () => {
    const { createServer } = await import('node:net')
    const folder = await mkdtemp('/tmp/r-')
    const name = (bytes: number) => join(folder, 's'.repeat(bytes - folder.length - 1))
    await mkdir(folder, { recursive: true })
    const longest = name(MAX_SOCKET_PATH_BYTES)
    checkSocketPath(longest)
    expect(() => checkSocketPath(`${longest}s`)).toThrow()
    expect(() => checkSocketPath('ü'.repeat(60))).toThrow(expect.objectContaining({ code: 'SOCKET_PATH_TOO_LONG' }))
    const server = createServer()
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(longest, resolve))
    await new Promise(resolve => server.close(resolve))
    await rm(folder, { recursive: true })
  })
})
