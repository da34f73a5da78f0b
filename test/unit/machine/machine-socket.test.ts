import { writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import {
  checkSocketFolder,
  machineSocket,
  nbdUri,
  socketOfUri,
  sweepSockets
} from '../../../src/machine/machine-socket.ts'
import { MAX_SOCKET_PATH_BYTES } from '../../../src/socket-path.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'

afterEach(removeFolders)

const folderOf = (bytes: number) => `/${'h'.repeat(bytes - 1)}`

test('a socket has the name of its machine where that fits, else a part of its hash, always the same', () => {
  const name = 'm'.repeat(64)
  expect(machineSocket('/home/nbd', name)).toBe(`/home/nbd/${name}.sock`)
  const long = folderOf(60)
  const path = machineSocket(long, name)
  expect(path).toMatch(/\/_[0-9a-f]{12}\.sock$/)
  expect(machineSocket(long, name)).toBe(path)
  expect(machineSocket(long, `${name.slice(1)}n`)).not.toBe(path)
  expect(machineSocket(long, 'short')).toBe(`${long}/short.sock`)
})

test('a folder that is accepted has room for every machine', () => {
  const longest = MAX_SOCKET_PATH_BYTES - '/_0123456789ab.sock'.length
  checkSocketFolder(folderOf(longest))
  expect(Buffer.byteLength(machineSocket(folderOf(longest), 'm'.repeat(64)))).toBe(MAX_SOCKET_PATH_BYTES)
  expect(() => checkSocketFolder(folderOf(longest + 1))).toThrow(withCode('SOCKET_PATH_TOO_LONG'))
})

test('a URI gives back the socket, whatever is in its path', () => {
  for (const path of ['/a/nbd/m.sock', '/a b/ü?#&+%20/m.sock']) expect(socketOfUri(nbdUri('m', path))).toBe(path)
  expect(nbdUri('m', '/a/nbd/m.sock')).toBe('nbd+unix:///m?socket=/a/nbd/m.sock')
})

test('only sockets are swept away', async () => {
  const folder = await temporaryFolder()
  for (const file of ['m.sock', '_0123456789ab.sock', 'notes']) writeFileSync(join(folder, file), '')
  sweepSockets(folder)
  expect(await readdir(folder)).toEqual(['notes'])
})
