/**
 * Real images by QEMU's own tools: every kind of qcow2 that stands alone is published as the disk in it; whatever refers
 * to another file, or is another format, is refused before any tool opens it.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openImage } from '../../src/release/image-input.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { needTools } from '../tools/need.ts'

const run = promisify(execFile)
const SIZE = 6 * 1024 * 1024
const describe = needTools(['qemu-img', 'qemu-io'])
let folder: string
let temporary: string
let digest: string

const path = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await temporaryFolder()
  temporary = path('tmp')
  await mkdir(temporary)
  const disk = Buffer.alloc(SIZE)
  for (let at = 1024 * 1024; at < 3 * 1024 * 1024; at++) disk[at] = (at * 7 + (at >> 9)) & 255
  disk.write('the end', SIZE - 10)
  digest = createHash('sha256').update(disk).digest('hex')
  await writeFile(path('disk.raw'), disk)
  await writeFile(path('secret'), 'a file of this host'.repeat(10_000))
})

afterAll(removeFolders)

async function digestOfImage(name: string): Promise<string> {
  const input = await openImage(path(name), { temporaryFolder: temporary })
  try {
    const bytes = Buffer.alloc(input.sizeBytes)
    expect(readSync(input.fd, bytes, 0, bytes.length, 0)).toBe(SIZE)
    return createHash('sha256').update(bytes).digest('hex')
  } finally {
    await input.close()
  }
}

const openIt = (name: string) => openImage(path(name), { temporaryFolder: temporary })

describe('a qcow2 image that stands alone', () => {
  test.each([
    ['version 3', []],
    ['version 2', ['-o', 'compat=0.10']],
    ['compressed with zlib', ['-c']],
    ['compressed with zstd', ['-c', '-o', 'compression_type=zstd']],
    ['small clusters', ['-o', 'cluster_size=512']],
    ['large clusters', ['-o', 'cluster_size=2M']],
    ['sub-clusters', ['-o', 'extended_l2=on,cluster_size=128k']],
    ['lazy reference counts', ['-o', 'lazy_refcounts=on']],
    ['preallocated', ['-o', 'preallocation=full']]
  ])('%s', async (what, options) => {
    const name = `${what.replaceAll(' ', '-')}.qcow2`
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...options, path('disk.raw'), path(name)])
    const before = await readFile(path(name))
    expect(await digestOfImage(name)).toBe(digest)
    expect((await readFile(path(name))).equals(before)).toBe(true)
    expect(await readdir(temporary)).toEqual([])
  })

  test('with snapshots and bitmaps inside: the active disk', async () => {
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', path('disk.raw'), path('snap.qcow2')])
    await run('qemu-io', ['-c', 'write -P 9 0 64k', path('snap.qcow2')])
    await run('qemu-img', ['snapshot', '-c', 'one', path('snap.qcow2')])
    await run('qemu-io', ['-c', 'write -P 0 0 64k', path('snap.qcow2')])
    await run('qemu-img', ['bitmap', '--add', path('snap.qcow2'), 'changes'])
    expect(await digestOfImage('snap.qcow2')).toBe(digest)
  })

  test('under any name, for its bytes say what it is', async () => {
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', path('disk.raw'), path('disk.img')])
    await rename(path('disk.img'), path('a ",{file:x}.raw'))
    expect(await digestOfImage('a ",{file:x}.raw')).toBe(digest)
  })
})

describe('refused', () => {
  test.each([
    ['a backing file', ['-b', 'secret', '-F', 'raw'], 'secret'],
    ['a backing file of version 2', ['-o', 'compat=0.10', '-b', 'secret', '-F', 'raw'], 'secret'],
    ['a backing file by a URL', ['-u', '-b', 'nbd:localhost:1', '-F', 'raw'], 'nbd:localhost:1'],
    ['an external data file', ['-o', 'data_file=DATA'], 'DATA'],
    ['an external raw data file', ['-o', 'data_file=DATA,data_file_raw=on'], 'DATA']
  ])('%s', async (what, options, says) => {
    const name = `${what.replaceAll(' ', '-')}.qcow2`
    const where = options.map(option => option.replace('DATA', path(`${name}.data`)))
    await run('qemu-img', ['create', '-f', 'qcow2', ...where, path(name), `${SIZE}`], { cwd: folder })
    await expect(openIt(name)).rejects.toMatchObject({
      code: 'IMAGE_HAS_BACKING',
      message: expect.stringContaining(says.replace('DATA', 'data'))
    })
    expect(await readdir(temporary)).toEqual([])
  })

  test('an encrypted image', async () => {
    const secret = ['--object', 'secret,id=s,data=abc']
    const options = ['-o', 'encrypt.format=aes,encrypt.key-secret=s']
    await run('qemu-img', ['create', ...secret, '-f', 'qcow2', ...options, path('aes.qcow2'), `${SIZE}`])
    await expect(openIt('aes.qcow2')).rejects.toMatchObject({
      code: 'IMAGE_FORMAT',
      message: expect.stringContaining('encrypted')
    })
  })

  test.each([
    ['vmdk', [], 'VMDK'],
    ['vmdk', ['-o', 'subformat=monolithicFlat'], 'VMDK'],
    ['vmdk', ['-o', 'subformat=streamOptimized'], 'VMDK'],
    ['vhdx', [], 'VHDX'],
    ['vpc', [], 'VHD'],
    ['vpc', ['-o', 'subformat=fixed'], 'VHD'],
    ['vdi', [], 'VDI'],
    ['qed', [], 'QED'],
    ['parallels', [], 'Parallels']
  ])('the format %s %s, with what to do', async (format, options, says) => {
    const name = `disk-${options.join('').replaceAll(/[^a-z]/gi, '')}.${format}`
    await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, path('disk.raw'), path(name)])
    await expect(openIt(name)).rejects.toMatchObject({
      code: 'IMAGE_FORMAT',
      message: expect.stringMatching(new RegExp(`${says}.*qemu-img convert -f ${format}`))
    })
  })
})
